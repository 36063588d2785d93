import { Button, NativeSelect, PasswordInput, TextInput, useMantineColorScheme } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { usePatchMe } from "../../api/me";
import { Failure } from "../../components/faces";
import { fieldErrors } from "../../components/formErrors";
import { toast } from "../../components/toast";
import { asLang, LANGS, LANG_NAMES, useT } from "../../i18n/i18n";
import { zone } from "../../i18n/format";
import { useSession } from "../../session";
import { MODES } from "../../theme";
import { switchLanguage } from "../shell/Preferences";

export function ProfileTab() {
  const { t, lang } = useT();
  const { user } = useSession();
  const qc = useQueryClient();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const [name, setName] = useState(user.display_name ?? "");
  const [old, setOld] = useState("");
  const [next, setNext] = useState("");
  const profile = usePatchMe();
  const password = usePatchMe();
  const errors = { ...fieldErrors(profile.error), ...fieldErrors(password.error) };
  return (
    <div className="cards">
      <form
        className="card stack"
        onSubmit={(e) => {
          e.preventDefault();
          profile.mutate(
            { display_name: name },
            {
              onSuccess: () => {
                toast(t("settings.saved"));
                void qc.invalidateQueries({ queryKey: ["me"] });
              },
            },
          );
        }}
      >
        <h2>{t("profile.me")}</h2>
        <p className="muted">{t("profile.as", { name: user.name, role: t(`role.${user.role}`) })}</p>
        {user.bound && (
          <p className="muted">
            {t("profile.bound", {
              labels: Object.entries(user.bound)
                .map(([k, v]) => `${k}="${v}"`)
                .join(", "),
            })}
          </p>
        )}
        <TextInput
          label={t("profile.display")}
          value={name}
          error={errors.display_name}
          onChange={(e) => setName(e.currentTarget.value)}
        />
        {profile.isError && <Failure compact error={profile.error} />}
        <Button type="submit" loading={profile.isPending}>
          {t("common.save")}
        </Button>
      </form>
      <section className="card stack" aria-label={t("profile.look")}>
        <h2>{t("profile.look")}</h2>
        <NativeSelect
          label={t("profile.language")}
          value={lang}
          onChange={(e) => {
            const l = asLang(e.currentTarget.value);
            if (l) switchLanguage(l);
          }}
          data={LANGS.map((l) => ({ value: l, label: LANG_NAMES[l] }))}
        />
        <NativeSelect
          label={t("profile.theme")}
          value={colorScheme}
          onChange={(e) => setColorScheme(MODES.find((m) => m === e.currentTarget.value) ?? "auto")}
          data={MODES.map((m) => ({ value: m, label: t(`theme.${m}`) }))}
        />
        <p className="muted">{t("profile.zone", { zone: zone() })}</p>
      </section>
      <form
        className="card stack"
        onSubmit={(e) => {
          e.preventDefault();
          password.mutate(
            { old_password: old, password: next },
            { onSuccess: () => (toast(t("profile.changed")), setOld(""), setNext("")) },
          );
        }}
      >
        <h2>{t("profile.password.title")}</h2>
        <input type="text" name="username" autoComplete="username" value={user.name} readOnly hidden />
        <PasswordInput
          label={t("profile.old")}
          autoComplete="current-password"
          value={old}
          error={errors.old_password}
          onChange={(e) => setOld(e.currentTarget.value)}
        />
        <PasswordInput
          label={t("profile.new")}
          autoComplete="new-password"
          value={next}
          error={errors.password}
          onChange={(e) => setNext(e.currentTarget.value)}
        />
        {password.isError && !errors.password && !errors.old_password && (
          <Failure compact error={password.error} />
        )}
        <Button type="submit" disabled={!old || !next} loading={password.isPending}>
          {t("profile.change")}
        </Button>
      </form>
    </div>
  );
}
