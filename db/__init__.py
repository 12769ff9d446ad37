"""The farm's truth: what is wanted, what is done, and who holds what. Postgres only."""
