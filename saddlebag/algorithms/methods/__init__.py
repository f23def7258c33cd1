"""Methods for variational inequalities: one file each, a worker half and a server half."""
