"""The node: what happens to one trial on the machine it runs on."""
