//! Taking in batches that arrive in pieces.

use super::{Batch, BatchBuf, BatchError, schema_carried};
use crate::emit::Full;
use crate::schema::TupleType;

impl BatchBuf {
    /// Begins to take in a batch that arrives in pieces; what was in the buffer is forgotten. Until `receive_end` the buffer
    /// dereferences to the bytes so far: parse the header ([`BatchHeader::parse`](super::BatchHeader::parse)) when 64 have come, to learn the length.
    pub fn receive_begin(&mut self) {
        self.close_empty();
        self.state.len = 0;
        self.state.receiving = true;
    }

    /// Takes the next piece.
    ///
    /// # Errors
    ///
    /// [`Full`] if it exceeds the capacity; nothing of it was taken.
    ///
    /// # Panics
    ///
    /// Without `receive_begin`.
    pub fn receive(&mut self, piece: &[u8]) -> Result<(), Full> {
        assert!(self.state.receiving, "receive_begin comes first");
        let (start, end) = (self.state.len, self.state.len + piece.len());
        let Some(room) = self.memory_mut().get_mut(start..end) else { return Err(Full) };
        room.copy_from_slice(piece);
        self.state.len = end;
        Ok(())
    }

    /// Checks the batch that was received ([`Batch::validate`]); from now on it is as if written here and sealed.
    ///
    /// # Errors
    ///
    /// [`BatchError`] names what is wrong; also if bytes came beyond the end of the batch. The buffer is empty then.
    ///
    /// # Panics
    ///
    /// Without `receive_begin`.
    pub fn receive_end(&mut self, ty: Option<&TupleType>, max_batch: usize) -> Result<(), BatchError> {
        assert!(self.state.receiving, "receive_begin comes first");
        let checked = Batch::validate(self, ty, max_batch).and_then(|batch| {
            let excess = self.state.len - batch.bytes().len();
            if excess == 0 { Ok(batch.header()) } else { Err(BatchError::Excess { excess }) }
        });
        match checked {
            Ok(header) => {
                self.state.kind = header.kind;
                self.state.count = header.count;
                self.state.base_ns = header.base_ns;
                self.state.schema = schema_carried(header.kind, header.schema_id, header.dynamic());
                self.state.receiving = false;
                Ok(())
            }
            Err(error) => {
                self.close_empty();
                Err(error)
            }
        }
    }
}
