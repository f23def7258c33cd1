"""What a round makes of its uplinks: the mean, rules that some bad workers cannot move at will, and what each worker helped."""
