"""What people do with shared-instance sets: look at them, compare, pin, retire and export. Used by jobs.shared_sets."""
