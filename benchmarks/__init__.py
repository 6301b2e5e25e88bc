"""What guidance costs, measured."""
