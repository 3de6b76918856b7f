"""The same trials as a user of other tools would run them: one script per tool.

Each script is called with COUNT MODULE PYTHON TRIAL, and its COUNT trials import MODULE. Tools
that start a command for each trial start `PYTHON TRIAL MODULE`. Tools that call a function in
processes of their own have MODULE in their environment and the trial at TRIAL.
"""
