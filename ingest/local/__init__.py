"""The local engine: the model's API contract, served by rules and OCR on this machine.

It imports nothing of the rest of the package but the errors, and has its own numbers, so that it can referee.
"""
