"""The studio on this machine: settings, servers, models, and the farm as the steps see it."""
