"""Problems made of torch modules. torch is imported when the first operator is asked, not before.

`flat.py` keeps parameters as one vector, `evaluation.py` computes gradients on a worker's batch, `game.py` makes players and
losses a problem, `adversary.py` finds the worst
perturbation of a batch, `plain.py` lends modules and batches to programs that train by themselves. The problems are in
folders: `images/digits.py` trains a small vision transformer (`vision.py`), `images/digits_cnn.py` a convolutional network
(`convolutional.py`), both against an adversary (`adversarial.py`), `images/digits_gan.py` plays a generator
against a critic (`gan.py`), judged by a Frechet distance (`frechet.py`); `texts/albert_mlm.py` and
`texts/albert_sst2.py` train an ALBERT (`albert.py`) in word pieces (`vocabulary.py`) against perturbations of its embeddings.
"""

import saddlebag.algorithms.problems  # noqa: F401 (first: its registry imports the modules here, which import its others)
