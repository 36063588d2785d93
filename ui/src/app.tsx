import { MantineProvider } from "@mantine/core";
import { QueryClientProvider, type QueryClient } from "@tanstack/react-query";
import { Suspense, useEffect } from "react";
import { Route, Router, Switch } from "wouter";
import { basePath } from "./api/client";
import { startStream } from "./api/stream";
import type { Boot } from "./api/types";
import { ErrorBoundary } from "./components/ErrorBoundary";
import { ConfirmHost } from "./components/confirm";
import { Skeleton } from "./components/faces";
import { useGuardedLocation } from "./components/guard";
import { ToastHost } from "./components/toast";
import { NotFound } from "./features/shell/NotFound";
import { Shell } from "./features/shell/Shell";
import { useT } from "./i18n/i18n";
import { ROUTES } from "./routes";
import { storedMode, theme } from "./theme";
import { modeManager } from "./themeManager";

export function App({ boot, queries }: { boot: Boot; queries: QueryClient }) {
  const { lang } = useT();
  useEffect(() => startStream(queries), [queries]);
  return (
    <MantineProvider
      theme={theme}
      defaultColorScheme={storedMode()}
      colorSchemeManager={modeManager}
      {...(boot.nonce ? { getStyleNonce: () => boot.nonce ?? "" } : {})}
    >
      <QueryClientProvider client={queries}>
        <Router base={basePath} hook={useGuardedLocation}>
          <Shell boot={boot}>
            {/* Another language builds the view anew: texts outside of React follow as well. */}
            <ErrorBoundary key={lang}>
              <Suspense fallback={<Skeleton rows={8} />}>
                <Switch>
                  {ROUTES.map((r) => (
                    <Route key={r.path} path={r.path} component={r.page} />
                  ))}
                  <Route component={NotFound} />
                </Switch>
              </Suspense>
            </ErrorBoundary>
          </Shell>
        </Router>
        <ConfirmHost />
        <ToastHost />
      </QueryClientProvider>
    </MantineProvider>
  );
}
