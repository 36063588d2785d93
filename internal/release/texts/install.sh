#!/bin/sh
# Installs, renews or removes the agent of Panoptes on this host.
# 在本机安装、更新或卸载 Panoptes 代理。
#
#   sh install.sh --server http://SERVER:9700 --join SERVER:9701 --token pnp1.…
#   sh install.sh --server http://SERVER:9700        renew the program
#   sh install.sh --uninstall [--purge]
#
# Written by a server of version {{.Version}}. It carries the SHA-256 of the programs
# that this server offers, so whoever trusts this text can trust what it installs.
set -eu

hash_of() {
	case "$1" in
{{- range .Files}}
	{{.OS}}-{{.Arch}}) echo {{.SHA256}} ;;
{{- end}}
	esac
}

usage() {
	cat <<'END'
Options / 选项:
  --server URL       where the program is fetched (http://SERVER:9700) / 下载地址
  --join HOST:9701   the server to join, the first time / 首次加入的服务器
  --token pnp1.…     the token to join with / 加入令牌
  --region NAME      region of this host / 所在区域
  --node NAME        name of this host (default its host name) / 主机名称
  --labels a=b,c=d   labels of this host / 标签
  --checks           run checks from this host, if the servers allow it / 从本机执行检查（需服务器允许）
  --binary FILE      take the program from a file, fetch nothing / 使用本地文件
  --init KIND        systemd, openrc or none (default: what runs here) / 启动方式
  --no-start         install, but do not start / 只安装不启动
  --root DIR         install below DIR, run nothing of the system / 安装到另一个根目录
  --dry-run          only say what would be done / 只显示将执行的操作
  --uninstall        stop and remove the agent; configuration and data stay / 卸载
  --purge            with --uninstall: remove configuration and data too / 同时删除配置和数据
END
}

say() { printf '%s\n' "$*"; }
die() {
	printf 'install.sh: %s\n' "$*" >&2
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# act changes files; sys changes the system around them.
act() {
	if [ "$dry" = 1 ]; then
		say "would: $*"
	else
		"$@"
	fi
}
sys() {
	if [ "$dry" = 1 ]; then
		say "would: $*"
	elif [ -n "$root" ]; then
		say "not run because of --root: $*"
	else
		"$@"
	fi
}

# put writes its input to a file, whole or not at all: put FILE MODE.
put() {
	if [ "$dry" = 1 ]; then
		cat >/dev/null
		say "would: write $1"
		return
	fi
	put_new="$1.new.$$"
	(umask 077 && cat >"$put_new")
	chmod "$2" "$put_new"
	mv -f "$put_new" "$1"
}

# plain says whether a value is made of characters that need no quoting anywhere.
plain() {
	case "$1" in
	*[!A-Za-z0-9._:/@=,+%\[\]-]* | '') return 1 ;;
	esac
}

# named says whether a value can stand between quotation marks in the file.
named() {
	case "$1" in
	*'"'* | *\\* | *[[:cntrl:]]* | '' | -*) return 1 ;;
	esac
}

platform() {
	os=$(uname -s | tr '[:upper:]' '[:lower:]')
	case "$(uname -m)" in
	x86_64 | amd64) arch=amd64 ;;
	aarch64 | arm64) arch=arm64 ;;
	armv7* | armv8l) arch=armv7 ;;
	*) arch=$(uname -m) ;;
	esac
	case "$os" in
	linux | darwin | freebsd) ;;
	*) die "there is no agent for $os; on Windows use: panoptes token create --role agent --for windows" ;;
	esac
}

fetch() { # URL FILE
	if have curl; then
		curl -fsSL --retry 3 --connect-timeout 10 -o "$2" "$1"
	elif have wget; then
		wget -q -O "$2" "$1"
	else
		die "neither curl nor wget is here; install one, or bring the program yourself and name it with --binary FILE"
	fi
}

sha256() {
	if have sha256sum; then
		sha256sum "$1" | cut -d' ' -f1
	elif have shasum; then
		shasum -a 256 "$1" | cut -d' ' -f1
	elif have openssl; then
		openssl dgst -sha256 "$1" | sed 's/.* //'
	else
		die "none of sha256sum, shasum and openssl is here: the program cannot be checked"
	fi
}

find_init() {
	[ -z "$init" ] || return 0
	init=none
	if [ -d "$root/run/systemd/system" ]; then
		init=systemd
	elif [ -x "$root/sbin/openrc-run" ] || [ -x "$root/usr/sbin/openrc-run" ]; then
		init=openrc
	fi
}

unit() {
	cat <<'END'
{{.Systemd}}END
}

openrc() {
	cat <<'END'
{{.OpenRC}}END
}

config() {
	say "# The agent of Panoptes; what stands here no server can widen."
	say "# Other keys: checks, collect, buffer, proxy, update. See the manual."
	[ -z "$node" ] || say "node: \"$node\""
	[ -z "$region" ] || say "region: \"$region\""
	if [ -n "$labels" ]; then
		say "labels:"
		printf '%s\n' "$labels" | tr ',' '\n' | while IFS= read -r pair; do
			case "$pair" in
			?*=?*) say "  \"${pair%%=*}\": \"${pair#*=}\"" ;;
			esac
		done
	fi
	if [ "$checks" = 1 ]; then
		say "checks:"
		say "  enabled: true"
	fi
}

make_user() {
	if [ -z "$root" ] && id "$user" >/dev/null 2>&1; then
		return
	fi
	if [ -n "$root" ] && grep -q "^$user:" "$root/etc/passwd" 2>/dev/null; then
		return
	fi
	if have useradd; then
		sys useradd --system --user-group --no-create-home --home-dir "$data" --shell /usr/sbin/nologin "$user"
	elif have adduser && have addgroup; then
		sys addgroup -S "$user"
		sys adduser -S -D -H -h "$data" -s /sbin/nologin -G "$user" "$user"
	elif have pw; then
		sys pw useradd "$user" -d "$data" -s /usr/sbin/nologin
	else
		die "no useradd, adduser or pw is here; make the user and group $user yourself and run this again"
	fi
}

install_program() {
	want=$(hash_of "$os-$arch")
	if [ -z "$binary" ]; then
		[ -n "$want" ] || die "this server has no agent for $os/$arch; 'make agents' builds those that there are, see the manual"
		if [ -f "$root$bin" ] && [ "$(sha256 "$root$bin")" = "$want" ]; then
			say "$bin is current"
			return
		fi
	fi
	act mkdir -p "$root$(dirname "$bin")"
	if [ "$dry" = 1 ]; then
		say "would: fetch $server/agent/$os/$arch, check its SHA-256 $want, put it at $bin"
		return
	fi
	tmp="$root$bin.new.$$"
	trap 'rm -f "$tmp"' EXIT
	trap 'exit 1' HUP INT TERM
	if [ -n "$binary" ]; then
		cp "$binary" "$tmp"
	else
		fetch "$server/agent/$os/$arch" "$tmp" || die "could not fetch $server/agent/$os/$arch"
		got=$(sha256 "$tmp")
		[ "$got" = "$want" ] || die "what $server sent has the SHA-256 $got, not $want: it was changed on the way, or the server got other programs since; nothing was installed"
	fi
	chmod 0755 "$tmp"
	"$tmp" version >/dev/null 2>&1 || [ -n "$root" ] || die "the program does not run on this machine"
	mv -f "$tmp" "$root$bin"
	trap - EXIT HUP INT TERM
	# What an update by the servers brought is older or unknown to who installs by hand.
	rm -rf "$root$data/update"
	say "$bin installed"
}

install_files() {
	act mkdir -p "$root$etc" "$root$data"
	act chmod 0755 "$root$etc"
	act chmod 0700 "$root$data"
	if [ -z "$root" ]; then
		sys chown "$user:$(id -gn "$user" 2>/dev/null || echo "$user")" "$data"
	fi
	if [ -f "$root$etc/agent.yml" ]; then
		say "$etc/agent.yml is kept as it is"
		[ "$checks" = 0 ] || say "--checks: write 'checks: {enabled: true}' into it yourself, unless it is there, and start the agent anew"
	else
		config | put "$root$etc/agent.yml" 0644
		if [ -z "$root" ]; then # passwords of targets and proxies may come to stand in it
			sys chgrp "$(id -gn "$user" 2>/dev/null || echo "$user")" "$etc/agent.yml"
			sys chmod 0640 "$etc/agent.yml"
		fi
		say "$etc/agent.yml written"
	fi
	if [ -n "$join" ]; then
		{
			say "PANOPTES_JOIN=$join"
			[ -z "$token" ] || say "PANOPTES_TOKEN=$token"
		} | put "$root$etc/agent.env" 0600
	fi
}

# forget_token drops the token once the host has an identity of its own.
forget_token() {
	[ "$dry" = 0 ] && [ -n "$token" ] && [ -z "$root" ] || return 0
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		if [ -s "$data/servers.json" ]; then
			say "PANOPTES_JOIN=$join" | put "$etc/agent.env" 0600
			say "joined; the token was removed from $etc/agent.env"
			return 0
		fi
		sleep 1
	done
	say "not joined yet; look at $1. The token stays in $etc/agent.env until you remove it."
}

start() {
	case "$init" in
	systemd)
		act mkdir -p "$root/etc/systemd/system"
		unit | put "$root/etc/systemd/system/$name.service" 0644
		say "/etc/systemd/system/$name.service written"
		sys systemctl daemon-reload
		[ "$started" = 1 ] || return 0
		sys systemctl enable "$name.service"
		sys systemctl restart "$name.service"
		forget_token "journalctl -u $name"
		;;
	openrc)
		act mkdir -p "$root/etc/init.d"
		openrc | put "$root/etc/init.d/$name" 0755
		say "/etc/init.d/$name written"
		[ "$started" = 1 ] || return 0
		sys rc-update add "$name" default
		sys rc-service "$name" restart
		forget_token "/var/log/$name.log"
		;;
	*)
		by_hand=1
		say "no systemd and no OpenRC is here. Have your own supervisor run, as $user or as root:"
		say "  set -a; . $etc/agent.env; $bin"
		;;
	esac
}

uninstall() {
	case "$init" in
	systemd)
		sys systemctl disable --now "$name.service" || true
		act rm -f "$root/etc/systemd/system/$name.service"
		sys systemctl daemon-reload || true
		;;
	openrc)
		sys rc-service "$name" stop || true
		sys rc-update del "$name" default || true
		act rm -f "$root/etc/init.d/$name"
		;;
	esac
	act rm -f "$root$bin" "$root$etc/agent.env"
	if [ "$purge" = 1 ]; then
		act rm -rf "$root$data" "$root$etc/agent.yml"
		if [ -z "$root" ] && id "$user" >/dev/null 2>&1; then
			if have userdel; then sys userdel "$user" || true; elif have deluser; then sys deluser "$user" || true; fi
		fi
		say "the agent, its configuration and its data are removed"
	else
		say "the agent is removed; $etc/agent.yml and $data stay (--purge removes them)"
	fi
	say "The servers still have this host on record: panoptes node remove NAME"
}

value() { # OPTION COUNT VALUE
	[ "$2" -ge 2 ] || die "$1 needs a value"
	case "$1" in
	--region | --node) named "$3" ;;
	*) plain "$3" ;;
	esac || die "$1: the value has characters that are not allowed here"
}

main() {
	name=panoptes-agent user=panoptes-agent bin=/usr/local/bin/panoptes-agent etc=/etc/panoptes data=/var/lib/panoptes-agent
	server='' join='' token='' region='' node='' labels='' binary='' init='' root='' dry=0 remove=0 purge=0 started=1 checks=0
	while [ $# -gt 0 ]; do
		case "$1" in
		--server) value "$1" $# "${2-}" && server=$2 && shift ;;
		--join) value "$1" $# "${2-}" && join=$2 && shift ;;
		--token) value "$1" $# "${2-}" && token=$2 && shift ;;
		--region) value "$1" $# "${2-}" && region=$2 && shift ;;
		--node) value "$1" $# "${2-}" && node=$2 && shift ;;
		--labels) value "$1" $# "${2-}" && labels=$2 && shift ;;
		--binary) value "$1" $# "${2-}" && binary=$2 && shift ;;
		--root) value "$1" $# "${2-}" && root=${2%/} && shift ;;
		--init) value "$1" $# "${2-}" && init=$2 && shift ;;
		--checks) checks=1 ;;
		--no-start) started=0 ;;
		--dry-run) dry=1 ;;
		--uninstall) remove=1 ;;
		--purge) purge=1 ;;
		-h | --help)
			usage
			exit 0
			;;
		*) die "$1 is not an option; see --help" ;;
		esac
		shift
	done
	case "$init" in
	'' | systemd | openrc | none) ;;
	*) die "--init: must be systemd, openrc or none" ;;
	esac
	platform
	if [ "$(id -u)" != 0 ] && [ -z "$root" ] && [ "$dry" = 0 ]; then
		die "this needs root: put sudo (or doas) in front of sh, or look first with --dry-run / 需要 root 权限"
	fi
	find_init
	if [ "$remove" = 1 ]; then
		uninstall
		return
	fi
	if [ -z "$join" ] && [ ! -e "$root$data/pki" ]; then
		die "this host has not joined yet: give --join HOST:9701 and --token; 'panoptes token create --role agent' on a server prints the whole line"
	fi
	if [ -z "$token" ] && [ ! -e "$root$data/pki" ]; then
		die "--token is missing; 'panoptes token create --role agent' makes one"
	fi
	if [ -z "$server" ] && [ -z "$binary" ]; then
		[ -n "$join" ] || die "--server http://SERVER:9700 is missing: where the program is fetched"
		server="http://${join%:*}:$((${join##*:} - 1))"
		say "fetching from $server; --server names another address"
	fi
	server=${server%/}
	install_program
	make_user
	install_files
	start
	if [ "$dry" = 1 ]; then
		say "nothing was changed"
	elif [ -n "${by_hand:-}" ] || [ "$started" = 0 ]; then
		say "done: $name is installed and not started; configuration in $etc/agent.yml, data in $data"
	else
		say "done: $name watches this host; configuration in $etc/agent.yml, data in $data"
	fi
}

main "$@"
