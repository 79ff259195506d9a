//! Packets of clients: any bytes are refused or understood, and what is understood encodes to a
//! packet that is understood the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lmkd::control::wire::Message;
use lmkd::control::wire::Request;

fuzz_target!(|datagram: &[u8]| {
    let _ = Message::decode(datagram);
    if let Ok(request) = Request::decode(datagram) {
        let packet = request.encode();
        let again = Request::decode(packet.as_bytes());
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, ()>(request)));
    }
});
