"""Many jobs, one after another: what is there to do, what is done, and what comes next."""
