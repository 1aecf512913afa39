"""What lasts: the ledger of answers and attempts, and the files of results."""
