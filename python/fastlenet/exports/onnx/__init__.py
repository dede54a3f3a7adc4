"""The parts of the ONNX export: graph.py collects nodes and constants; float32.py and int8.py make them of layers."""
