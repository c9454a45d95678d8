"""`python -m training search`: pick hyperparameters on the validation part, within a budget.

space      what may be chosen, as options of `python -m training fit`
study      trials, one fit each, kept in a folder and continued there
report     what was found, as JSON and as a picture
command    the options, the progress, and the command that fits the best
"""
