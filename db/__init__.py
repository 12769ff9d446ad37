"""The state of the farm: storyboards, takes, segments, and the leases on them. Postgres only."""
