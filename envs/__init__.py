"""policykd.envs."""
