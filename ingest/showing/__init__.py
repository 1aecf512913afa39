"""What people see: progress while a run lasts, reports when it is over, evaluations against known answers."""
