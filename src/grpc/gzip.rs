//! Messages that are compressed with gzip, which many client libraries can turn on. They are decompressed here, where
//! their size is known to be bounded before it is in memory.

use std::io::Read as _;

use flate2::read::GzDecoder;
use prost::bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tonic::Status;
use tonic::codegen::http::HeaderMap;

use super::status;
use crate::blocking::block_in_place_if;

/// The header that names the compression of a call's messages.
const ENCODING: &str = "grpc-encoding";
/// A byte for compression and four for the length.
const PREFIX_BYTES: usize = 5;
const COMPRESSED: u8 = 1;
/// Bytes that are decompressed at a time.
const PART_BYTES: u64 = 32 * 1024;
/// Decompressing a larger message may take milliseconds.
const INLINE_BYTES: usize = 64 * 1024;

/// Decompresses the messages of one call.
#[derive(Debug)]
pub(super) struct Gzip {
    max_bytes: usize,
    /// What has arrived of a message.
    arrived: BytesMut,
}

impl Gzip {
    /// If the messages of a call with these headers are compressed with gzip. The header is removed: for the services,
    /// messages are not compressed.
    pub(super) fn of(headers: &mut HeaderMap, max_bytes: usize) -> Option<Self> {
        headers.get(ENCODING).filter(|encoding| *encoding == "gzip")?;
        headers.remove(ENCODING);
        Some(Self { max_bytes, arrived: BytesMut::new() })
    }

    /// The messages that a frame completes, each with its prefix.
    pub(super) fn decompress(&mut self, frame: &[u8]) -> Result<Bytes, Status> {
        self.arrived.extend_from_slice(frame);
        let mut messages = BytesMut::new();
        while let Some((flag, length)) = self.prefix()? {
            if self.arrived.len() - PREFIX_BYTES < length {
                break;
            }
            self.arrived.advance(PREFIX_BYTES);
            let message = self.arrived.split_to(length);
            if flag == COMPRESSED {
                let plain = block_in_place_if(length > INLINE_BYTES, || self.plain(&message))?;
                put(&mut messages, &plain);
            } else {
                put(&mut messages, &message);
            }
        }
        Ok(messages.freeze())
    }

    fn prefix(&self) -> Result<Option<(u8, usize)>, Status> {
        let Some([flag, length @ ..]) = self.arrived.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.max_bytes {
            return Err(status::message_too_large(self.max_bytes));
        }
        Ok(Some((*flag, length)))
    }

    fn plain(&self, message: &[u8]) -> Result<Vec<u8>, Status> {
        let mut decoder = GzDecoder::new(message);
        let mut plain = Vec::new();
        loop {
            let read = decoder.by_ref().take(PART_BYTES).read_to_end(&mut plain);
            match read {
                Ok(0) => return Ok(plain),
                Ok(_) if plain.len() > self.max_bytes => return Err(status::message_too_large(self.max_bytes)),
                Ok(_) => {}
                Err(_) => return Err(status::damaged_message()),
            }
        }
    }
}

fn put(messages: &mut BytesMut, message: &[u8]) {
    messages.put_u8(0);
    // No message has more than 4 GiB.
    messages.put_u32(message.len() as u32);
    messages.extend_from_slice(message);
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tonic::Code;

    use super::*;

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(message).expect("memory");
        encoder.finish().expect("memory")
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
    }

    fn decoder() -> Gzip {
        let mut headers = HeaderMap::new();
        headers.insert(ENCODING, "gzip".parse().expect("a value"));
        let gzip = Gzip::of(&mut headers, 1000).expect("gzip");
        assert!(headers.is_empty());
        gzip
    }

    #[test]
    fn messages_are_decompressed_wherever_their_frames_are_cut() {
        let texts = [&b"first"[..], b"", &[b'a'; 1000]];
        let sent = [framed(1, &gzip(texts[0])), framed(0, texts[1]), framed(1, &gzip(texts[2]))].concat();
        let expected = texts.map(|text| framed(0, text)).concat();
        for size in 1..=sent.len() {
            let mut decoder = decoder();
            let parts = sent.chunks(size).map(|frame| decoder.decompress(frame).expect("valid").to_vec());
            assert_eq!(parts.collect::<Vec<_>>().concat(), expected, "frames of {size} bytes");
        }
    }

    #[test]
    fn too_large_and_damaged_messages_are_refused() {
        let code = |sent: &[u8]| decoder().decompress(sent).expect_err("refused").code();
        assert_eq!(code(&framed(1, &gzip(&[0; 1001]))), Code::InvalidArgument);
        assert_eq!(code(&framed(1, &gzip(&vec![0; 100_000_000])[..1000])), Code::InvalidArgument, "a bomb");
        assert_eq!(code(&[1, 0xff, 0xff, 0xff, 0xff]), Code::InvalidArgument, "before it arrives");
        assert_eq!(code(&framed(1, b"not compressed")), Code::InvalidArgument);
        assert_eq!(code(&framed(1, &gzip(b"cut off")[..12])), Code::InvalidArgument);
    }

    #[test]
    fn other_compressions_are_left_to_the_services() {
        for encoding in ["identity", "deflate", "zstd", "GZIP"] {
            let mut headers = HeaderMap::new();
            headers.insert(ENCODING, encoding.parse().expect("a value"));
            assert!(Gzip::of(&mut headers, 1000).is_none() && headers.len() == 1, "{encoding}");
        }
    }
}
