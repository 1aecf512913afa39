"""Parts to chunks and prices, from descriptors alone: nothing here opens a file or makes a pixel."""
