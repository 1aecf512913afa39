"""Chunks to checked partial answers: chunk schema, prompt, wire protocols, client and parsing."""
