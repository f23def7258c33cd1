"""Problems on texts: an ALBERT on word pieces, with or without perturbations of its embeddings."""
