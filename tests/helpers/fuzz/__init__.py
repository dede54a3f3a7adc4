"""A differential fuzzer of the ops; tests/fuzz.py runs it."""
