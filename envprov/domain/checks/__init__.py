"""The checks of a chart: each module holds the rules of one subject and pure functions that find what breaks them."""
