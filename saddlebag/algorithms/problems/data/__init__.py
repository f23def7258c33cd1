"""What problems of labelled data are made of: rows of features, their groups, and who holds which."""
