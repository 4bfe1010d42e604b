"""Great Expectations on frames, before they are published."""
