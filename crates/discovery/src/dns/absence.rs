//! The reasons why a DNS answer has no servers.

use std::fmt;

use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::RecordType;

/// Why an answer has no servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// NXDOMAIN.
    NoSuchName,
    /// The name exists, without records of that kind.
    NoRecords(RecordType),
    /// All records say that the service is decidedly not available there.
    NotOffered,
    /// There are services, and none of their targets has an address.
    NoAddresses,
}

/// Formatted as the text that follows the name.
impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchName => "does not exist (NXDOMAIN)",
            Self::NoRecords(RecordType::SRV) => "exists and has no SRV record",
            Self::NoRecords(_) => "exists and has neither an A nor an AAAA record",
            Self::NotOffered => "says that the service is not available",
            Self::NoAddresses => "names targets of which none has an address",
        })
    }
}

/// Why there is no answer, in words for who has to mend it. Shown as what follows the servers that
/// were asked.
pub(super) fn fault(error: &NetError) -> String {
    match error {
        // Also of an address where nobody listens: the questions travel in datagrams.
        NetError::Timeout => {
            "gave no answer in time (timeout; perhaps no server is there)".to_owned()
        }
        NetError::NoConnections => "could not be reached".to_owned(),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("refused to answer: {code}"),
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            format!("refused to answer: {}", none.response_code)
        }
        other => format!("gave no answer: {other}"),
    }
}
