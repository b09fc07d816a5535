"""A charm that gets a certificate, on Canonical's library."""

from __future__ import annotations

import json

import ops
from charmlibs.interfaces import certificate_transfer, tls_certificates as tls
from cryptography import x509
from cryptography.hazmat.primitives import hashes


def fingerprint(pem: object) -> str:
    """Return the SHA-256 fingerprint of a certificate."""
    return x509.load_pem_x509_certificate(str(pem).encode()).fingerprint(hashes.SHA256()).hex()


class Requirer(ops.CharmBase):
    """The charm."""

    _stored = ops.StoredState()

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self._stored.set_default(available=0, denied=[])
        name = self.unit.name.replace('/', '-')
        addresses = frozenset({'10.0.0.1'}) if self.config['addresses'] else frozenset()
        self.certificates = tls.TLSCertificatesRequiresV4(
            self,
            'certificates',
            [
                tls.CertificateRequestAttributes(
                    common_name=name, sans_dns=frozenset({f'{name}.test'}), sans_ip=addresses
                )
            ],
            refresh_events=[self.on.config_changed, self.on.update_status],
        )
        self.transfer = certificate_transfer.CertificateTransferRequires(self, 'receive-ca-cert')
        framework.observe(self.certificates.on.certificate_available, self._available)
        framework.observe(self.certificates.on.certificate_denied, self._denied)
        framework.observe(self.on.report_action, self._report)

    def _available(self, _: tls.CertificateAvailableEvent):
        self._stored.available += 1
        self._stored.denied = []

    def _denied(self, event: tls.CertificateDeniedEvent):
        assert event.error is not None
        self._stored.denied = [event.error.code, event.error.name, event.error.message]

    def _report(self, event: ops.ActionEvent):
        capabilities = self.certificates.get_provider_capabilities()
        report = {
            'available': self._stored.available,
            'denied': list(self._stored.denied),
            'capabilities': capabilities and capabilities.model_dump(exclude_none=True),
            'transferred': sorted(map(fingerprint, self.transfer.get_all_certificates())),
            'requests': len(self.certificates.get_csrs_from_requirer_relation_data()),
        }
        certificates, _ = self.certificates.get_assigned_certificates()
        for certificate in certificates:
            report |= {
                'certificate': fingerprint(certificate.certificate),
                'addresses': sorted(certificate.certificate.sans_ip or []),
                'ca': fingerprint(certificate.ca),
                'chain': [fingerprint(link) for link in certificate.chain],
            }
        event.set_results({'report': json.dumps(report)})


if __name__ == '__main__':
    ops.main(Requirer)
