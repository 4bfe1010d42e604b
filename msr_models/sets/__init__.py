"""The life of a shared-instance set, without torch.

A day uses the set that is pinned for it, or else the newest accepted one whose window ends before the day
(`catalogue`). `schedule` decides when a new search is due, by calendar or because scored days drifted (`drift`).
`masks` joins a set's stored ranks to rows, `pins` changes which set is used, and `compare`, `describe`, `export` and
`usage` are what the command `shared_sets` shows.
"""
