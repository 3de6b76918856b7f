"""The node: what runs one trial on the machine where it is placed."""
