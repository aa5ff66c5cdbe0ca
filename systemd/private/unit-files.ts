/**
 * The unit files of a private systemd: what a boot needs for D-Bus and the journal, and nothing of the host's.
 *
 * The host's own units, generators, sysctl and tmpfiles settings are never read, which is why a
 * boot takes well under a second and why nothing of it can reach the host.
 */

/** The target that a private systemd boots into; it wants every extra unit. */
export const BOOT_TARGET = 'kaon-boot.target';

/** Unit files by name; `default.target` is what systemd falls back to. */
export const UNIT_FILES: Readonly<Record<string, string>> = {
  [BOOT_TARGET]: `[Unit]
Description=Kaon development node
Requires=dbus.socket systemd-journald.socket
Wants=systemd-journald.service dbus.service
After=systemd-journald.service dbus.service
AllowIsolate=yes
`,
  // Units with default dependencies refer to these; they have to exist and may be empty.
  'sysinit.target': '[Unit]\nDescription=System Initialization\nWants=systemd-journald.service\n',
  'basic.target':
    '[Unit]\nDescription=Basic System\nRequires=sysinit.target\nAfter=sysinit.target\n',
  'sockets.target': '[Unit]\nDescription=Sockets\n',
  'multi-user.target':
    '[Unit]\nDescription=Multi-User System\nRequires=basic.target\nAfter=basic.target\n',
  'network.target': '[Unit]\nDescription=Network\n',
  'network-online.target': '[Unit]\nDescription=Network is Online\n',
  'shutdown.target':
    '[Unit]\nDescription=System Shutdown\nDefaultDependencies=no\nRefuseManualStart=yes\n',
  'dbus.socket': `[Unit]
Description=D-Bus System Message Bus Socket
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
`,
  'dbus.service': `[Unit]
Description=D-Bus System Message Bus
DefaultDependencies=no
Requires=dbus.socket
After=dbus.socket systemd-journald.socket
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only
Restart=on-failure
RestartSec=100ms
`,
  'systemd-journald.socket': `[Unit]
Description=Journal Socket
DefaultDependencies=no
[Socket]
ListenDatagram=/run/systemd/journal/socket
ListenStream=/run/systemd/journal/stdout
PassCredentials=yes
PassSecurity=yes
ReceiveBuffer=8M
SocketMode=0666
Timestamping=us
Service=systemd-journald.service
`,
  'systemd-journald.service': `[Unit]
Description=Journal Service
DefaultDependencies=no
Requires=systemd-journald.socket
After=systemd-journald.socket
[Service]
Type=notify
ExecStart=/lib/systemd/systemd-journald
Sockets=systemd-journald.socket
StandardOutput=null
Restart=always
RestartSec=0
FileDescriptorStoreMax=4224
RuntimeDirectory=systemd/journal
RuntimeDirectoryPreserve=yes
`,
};

/** journald keeps to memory and to itself: no kernel log, no audit, no forwarding. */
export const JOURNALD_CONF = `[Journal]
Storage=volatile
ReadKMsg=no
Audit=no
Seal=no
ForwardToSyslog=no
ForwardToKMsg=no
ForwardToConsole=no
ForwardToWall=no
RateLimitIntervalSec=0
RuntimeMaxUse=64M
`;
