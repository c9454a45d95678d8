"""Graphs that give R values ahead in one run, each read as if it had been seen.

sliding    y_{k+1} = window(x_{k+1} … x_T, y_1 … y_k)      from zero state each time
carry      s_{t+1} = step(y_t, s_t)                        the state goes on
"""
