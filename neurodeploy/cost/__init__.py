"""What a network costs: exact counts, energy as ranges with named assumptions, reports."""
