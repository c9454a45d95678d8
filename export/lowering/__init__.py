"""Ways to write a model as an ONNX graph, a module each, all from the same equations.

cells        one step of each cell kind
scaling      raw units to units of a series
transforms   those to what the cells read
calendar     the time's channels beside it
head         the top output to predictions and intervals, in raw units
unrolled     window.onnx: the step written out T times
half         the same with its cells in float16, on demand
step         step.onnx: the step once, state in and state out
source       the model as lowerings see it: equations by kind, weights by name
"""
