"""What a run says while it works: events, and the terminal that shows them."""
