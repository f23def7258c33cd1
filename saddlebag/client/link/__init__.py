"""A worker whose operator is somebody else's program: it steps as it likes, and now and then says where it has come."""
