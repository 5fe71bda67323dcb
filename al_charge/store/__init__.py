"""The store room: documents, MongoDB, models in GridFS and the embedded server."""
