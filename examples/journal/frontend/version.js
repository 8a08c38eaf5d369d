// What the page calls itself. Change this line, commit and push: that is a release.
export const version = process.env.JOURNAL_VERSION ?? '1.0.0';
