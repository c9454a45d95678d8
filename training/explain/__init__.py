"""What a fitted model does inside one window: `python -m training explain`.

gates       what every gate of a cell says, from the cell's own Linear layers
trace       a window through the model, step by step, and the loss back through it
picture     all of it in one picture
command     the options, and which window is meant
"""
