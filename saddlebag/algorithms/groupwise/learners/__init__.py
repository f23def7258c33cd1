"""Online learners, one model for each group, batched; one file each."""
