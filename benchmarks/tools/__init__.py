"""The same trials as users of other tools would run them: one script per tool, called with COUNT MODULE PYTHON TRIAL.

COUNT trials import MODULE. Tools that start a command for each trial start `PYTHON TRIAL MODULE`; tools that call a
function in processes of their own find MODULE in their environment and the trial at `TRIAL`.
"""
