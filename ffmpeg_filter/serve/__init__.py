"""A queue in the browser, on this machine only: `iconvsr serve`."""
