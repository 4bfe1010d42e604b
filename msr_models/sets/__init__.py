"""The life of a shared-instance set, without torch: schedule, catalogue, masks, drift, pins, use and export.

Which set does a day use? `catalogue.find_shared_set` returns the set that `pins.pin` pinned for the day, or else the
newest accepted set whose window ends before the day. `schedule.next_todo` names the search or scoring that must be done
first, so that days trained in any order use the same sets. `masks.Ranks` joins that set's stored ranks to the day's
rows, and refuses masks that `feature_files.stale_days` finds outdated.
"""
