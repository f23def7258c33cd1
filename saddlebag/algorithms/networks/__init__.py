"""Problems made of torch modules. torch is imported when the first operator is asked, not before.

`flat.py` keeps parameters as one vector, `game.py` makes players and losses a problem, `adversary.py` finds the worst
perturbation of a batch, `digits.py` trains a small vision transformer (`vision.py`) against it;
`digits_gan.py` plays a generator against a critic (`gan.py`), judged by a Frechet distance (`frechet.py`); `albert_mlm.py` and
`albert_sst2.py` train an ALBERT (`albert.py`) on texts (`text.py`) in word pieces (`vocabulary.py`), against perturbations
of its embeddings (`embeddings.py`). `plain.py` lends modules and batches to programs that train by themselves.
"""

import saddlebag.algorithms.problems  # noqa: F401 (first: its registry imports the modules here, which import its others)
