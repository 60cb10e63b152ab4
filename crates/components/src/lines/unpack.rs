//! Compressed files read as what was compressed: gzip (all members) and Zstandard (all frames, checksums verified), told by their
//! first bytes, not by their names.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Bytes that tell how a file is compressed.
pub(crate) const MAGIC_BYTES: usize = 4;

/// A reader of what was compressed, if the file begins as a compressed one does; it must stand at its start.
pub(crate) fn unpacked(head: &[u8], file: File) -> Result<Box<dyn Read>, File> {
    match head {
        [0x1f, 0x8b, ..] => Ok(Box::new(MultiGzDecoder::new(BufReader::new(file)))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Ok(Box::new(Frames { decoder: FrameDecoder::new(), source: BufReader::new(file) }))
        }
        _ => Err(file),
    }
}

/// The frames of a Zstandard file, one after the other.
struct Frames {
    decoder: FrameDecoder,
    source: BufReader<File>,
}

impl Frames {
    /// Goes to the next frame with content; `false` at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(cause) => return Err(io::Error::new(io::ErrorKind::InvalidData, cause)),
            }
        }
        Ok(false)
    }

    fn check(&self) -> io::Result<()> {
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(written), Some(found)) if written != found => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum of a Zstandard frame does not match"))
            }
            _ => Ok(()),
        }
    }
}

impl Read for Frames {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 {
            if !self.decoder.is_finished() {
                let decoded = self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))?;
                continue;
            }
            self.check()?;
            if !self.next_frame()? {
                return Ok(0);
            }
        }
        self.decoder.read(into)
    }
}
