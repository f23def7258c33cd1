"""Networks that grow thin while they are trained: neurons as players, masks over weights, and weights beside their mask."""
