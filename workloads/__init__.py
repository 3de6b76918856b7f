"""What runs in an environment: Python 3.6 to 3.13, the standard library, NumPy, a framework."""
