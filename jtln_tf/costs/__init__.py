"""Class cost matrices: their values and files, and the metrics that find them."""
