"""The batch steps: one file = one step = one task, `python -m jobs.<step> --dataset D --ds YYYY-MM-DD`."""
