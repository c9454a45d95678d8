"""Who still remembers? The adding problem for every kind of cell, at growing distances: `python -m training memory`.

adding      the sequences, and what is to be answered
chrono      gates that are set to a time scale before the first step
contest     one cell, one length, one budget of steps: how the error falls
report      the table and the picture
command     the options, the files
"""
