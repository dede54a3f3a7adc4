"""The parts of the C export: text.py writes C's words, stages.py the network, float32.py and int8.py its layers."""
