"""Where records go. Output files appear whole or not at all."""
